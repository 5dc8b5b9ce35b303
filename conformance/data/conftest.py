"""What the specs of data loading share: they end when their loaders have ended."""

import threading

import pytest


@pytest.fixture(autouse=True)
def loaders_have_ended():
    """Wait for the threads that fed the queues of DataLoader's workers.

    DataLoader joins its worker processes but only tells these threads to stop, and a moment later
    they do.
    """
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("QueueFeederThread"):
            thread.join(timeout=10)
