"""The course homework in plain PyTorch: the training loop is written out.

A multilayer perceptron (256 and 128 ReLU units) classifies images by softmax cross-entropy.
The recipe, equal in all five programs: He uniform weights and zero biases; Adam with
beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8; a learning rate that decays to zero along half a
cosine, step by step; every epoch visits all images in a new order, the last and smaller batch
included.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def build_model(features, classes):
    model = nn.Sequential(
        nn.Linear(features, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, classes),  # logits: the softmax is part of the loss
    )
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")  # He et al., 2015
            nn.init.zeros_(layer.bias)
    return model


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
    torch.manual_seed(seed)
    train_set = TensorDataset(torch.tensor(data.train_images), torch.tensor(data.train_labels))
    test_set = TensorDataset(torch.tensor(data.test_images), torch.tensor(data.test_labels))
    train_loader = DataLoader(train_set, batch_size, shuffle=True)
    test_loader = DataLoader(test_set, batch_size)

    model = build_model(data.train_images.shape[1], int(data.train_labels.max()) + 1).to(device)
    if compiled:
        model = torch.compile(model, dynamic=True)  # the last batch is smaller
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    steps = max(1, epochs * len(train_loader))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)

    for epoch in range(1, epochs + 1):
        model.train()
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = loss_function(model(images), labels)
            loss.backward()
            optimizer.step()
            schedule.step()
        if progress:
            progress(f"epoch {epoch}/{epochs}: last loss {loss.item():.4f}")

    model.eval()
    correct = 0
    with torch.no_grad():
        for images, labels in test_loader:
            predictions = model(images.to(device)).argmax(dim=1)
            correct += (predictions == labels.to(device)).sum().item()
    return correct / len(test_set)
