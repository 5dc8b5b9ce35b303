"""The course homework in Lightning: the module says what to do, the Trainer does it.

A multilayer perceptron (256 and 128 ReLU units) classifies images by softmax cross-entropy.
The recipe, equal in all five programs: He uniform weights and zero biases; Adam with
beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8; a learning rate that decays to zero along half a
cosine, step by step; every epoch visits all images in a new order, the last and smaller batch
included.
"""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Classifier(lightning.LightningModule):
    def __init__(self, features, classes, learning_rate, compiled, progress):
        super().__init__()
        self.learning_rate = learning_rate
        self.progress = progress
        self.network = nn.Sequential(
            nn.Linear(features, 256),
            nn.ReLU(),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, classes),  # logits: the softmax is part of the loss
        )
        for layer in self.network:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")  # He et al., 2015
                nn.init.zeros_(layer.bias)
        if compiled:
            # Not `self.network.compile()`, which leaves a plain nn.Sequential uncompiled.
            self.network = torch.compile(self.network, dynamic=True)  # the last batch is smaller

    def training_step(self, batch, _):
        images, labels = batch
        return nn.functional.cross_entropy(self.network(images), labels)

    def test_step(self, batch, _):
        images, labels = batch
        correct = self.network(images).argmax(dim=1) == labels
        self.log("accuracy", correct.float().mean(), batch_size=len(labels))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def on_train_epoch_end(self):
        if self.progress:
            self.progress(f"epoch {self.current_epoch + 1}/{self.trainer.max_epochs}")


def train(
    data,
    *,
    epochs=10,
    batch_size=128,
    learning_rate=1e-3,
    seed=0,
    device="cpu",
    compiled=True,
    progress=None,
):
    """Train on `data` and return the accuracy on its test images, in [0, 1].

    `data` has `train_images` and `test_images`, float32 of shape (N, features) in [0, 1], and
    `train_labels` and `test_labels`, int64 of shape (N,), counted from 0. `device` is "cpu",
    "cuda" or "mps". `progress` is called like `print`, once per epoch. `compiled` switches
    `torch.compile`.
    """
    torch.manual_seed(seed)  # seed_everything would leave environment variables behind
    train_set = TensorDataset(torch.tensor(data.train_images), torch.tensor(data.train_labels))
    test_set = TensorDataset(torch.tensor(data.test_images), torch.tensor(data.test_labels))
    features, classes = data.train_images.shape[1], int(data.train_labels.max()) + 1
    model = Classifier(features, classes, learning_rate, compiled, progress)
    trainer = lightning.Trainer(
        accelerator=device,
        devices=1,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(model, DataLoader(train_set, batch_size, shuffle=True))
    [metrics] = trainer.test(model, DataLoader(test_set, batch_size), verbose=False)
    return metrics["accuracy"]
