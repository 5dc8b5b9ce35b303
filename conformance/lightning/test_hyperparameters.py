"""save_hyperparameters(ignore=...): what is kept of the arguments of a constructor, and what not.

An argument that is a network of its own need not be saved twice: it is in the weights already.
`ignore` names it, and it is neither in `hparams` nor in the checkpoint. A derived class has the
last word over what its base has saved:

    Base(width, network)         save_hyperparameters()                    width, network
    Derived(width, network)      and then ...(ignore="network")            width

load_from_checkpoint then builds the module from the width, and is given the network by hand.

Sources: class 123, homework 2; https://lightning.ai/docs/pytorch/stable/common/hyperparameters.html,
https://lightning.ai/docs/pytorch/stable/common/lightning_module.html#save-hyperparameters,
https://github.com/Lightning-AI/pytorch-lightning/issues/21488
"""

from fixtures.matrix import behaviour


def modules_in_lightning():
    """(a class that ignores the network, one whose base does not)."""
    import lightning
    import torch

    class Plain(lightning.LightningModule):
        def __init__(self, width, network=None):
            super().__init__()
            self.save_hyperparameters(ignore="network")
            self.layer = torch.nn.Linear(width, 1)
            self.network = network

    class Base(lightning.LightningModule):
        def __init__(self, width, network=None):
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(width, 1)
            self.network = network

    class Derived(Base):
        def __init__(self, width, network=None):
            super().__init__(width, network)
            self.save_hyperparameters(ignore="network")

    return Plain, Derived


def kept_in_lightning(cell, module, file):
    """(hparams of a module, those in its checkpoint, its weights)."""
    import lightning
    import torch

    model = module(width=3, network=torch.nn.Linear(2, 1))
    trainer = lightning.Trainer(**cell.trainer_options)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(file, weights_only=True)
    in_file = torch.load(file, weights_only=False)["hyper_parameters"]
    return list(model.hparams), list(in_file), model.state_dict()


def loaded_in_lightning(cell, module, file):
    """(hparams of the module that is loaded and given a network, its weights)."""
    import torch

    model = module.load_from_checkpoint(file, network=torch.nn.Linear(2, 1))
    return dict(model.hparams), model.state_dict()


@behaviour(
    "lightning.hyperparameters-ignore",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.ignored-arguments-are-saved",
)
def test_hyperparameters_ignore(modules, kept, loaded, cell, expect, tmp_path):
    """The ignored network is in no hparams, the width is; loading gives back all weights.

    Of a class that saves its arguments alone, and of one whose base saves them all before.
    """
    for what, module in zip(("a class", "a derived class"), modules(), strict=True):
        file = tmp_path / f"{what}.ckpt"
        hparams, in_file, weights = kept(cell, module, file)
        expect.exactly(observed=hparams, expected=["width"], what=f"hparams of {what}")
        expect.exactly(observed=in_file, expected=["width"], what=f"checkpoint of {what}")
        restored, read = loaded(cell, module, file)
        expect.exactly(observed=restored, expected={"width": 3}, what=f"loaded hparams of {what}")
        for name, weight in weights.items():
            expect.exactly(observed=read[name], expected=cell.to_numpy(weight), what=name)
