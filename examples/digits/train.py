"""Trains a small neural network on the handwritten digits of the UCI machine learning repository.

1,797 images of 8 × 8 pixels (scikit-learn's copy), a fifth kept aside for the test; the rest is shown five
times an epoch: as it is and shifted by a pixel in each direction. One hidden layer, cross-entropy, Adam. Needs numpy alone.

Writes model.npz and metrics.json to --out, by default to /data/<BERTH_JOB_ID>.
"""

import argparse
import json
import os
import time
from pathlib import Path

# One thread: a job with a quarter of a CPU gains nothing from more, and they would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402 (the variable counts at import)

DATA = Path(__file__).with_name("digits.csv.gz")
CLASSES, SIDE = 10, 8
BATCH = 64
BETA1, BETA2, TINY = 0.9, 0.999, 1e-8  # Adam, the paper's values


def main():
    options = arguments()
    began = time.monotonic()
    train, test = load(options.seed)
    network = initial(options.hidden, options.seed)
    optimiser = Adam(network, options.rate)
    shuffle = np.random.default_rng(options.seed)
    print(f"{len(train[1])} training images, {len(test[1])} test images, {options.hidden} hidden units", flush=True)
    history = []
    for epoch in range(1, options.epochs + 1):
        loss = run_epoch(network, optimiser, *train, shuffle)
        accuracy = score(network, *test)
        history.append({"epoch": epoch, "loss": round(loss, 5), "accuracy": round(accuracy, 4)})
        print(f"epoch {epoch}/{options.epochs} loss={loss:.4f} accuracy={accuracy:.4f}", flush=True)
    save(options, network, history, time.monotonic() - began)


def arguments():
    name = os.environ.get("BERTH_JOB_ID") or os.environ.get("BERTH_JOB_NAME") or "digits"
    parser = argparse.ArgumentParser(description="Trains a classifier of handwritten digits.")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--hidden", type=int, default=256, help="units in the hidden layer")
    parser.add_argument("--rate", type=float, default=0.002, help="learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("/data") / name)
    return parser.parse_args()


def load(seed):
    """Two pairs (images, labels): for training, with its shifted copies, and for the test."""
    rows = np.loadtxt(DATA, delimiter=",", dtype=np.float32)
    order = np.random.default_rng(seed).permutation(len(rows))
    images, labels = rows[order, :-1] / 16, rows[order, -1].astype(int)
    held_out = len(rows) // 5
    shifted = [shift(images[held_out:], down, right) for down, right in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))]
    train = np.concatenate(shifted), np.tile(labels[held_out:], len(shifted))
    return train, (images[:held_out], labels[:held_out])


def shift(images, down, right):
    framed = np.pad(images.reshape(-1, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
    return framed[:, 1 - down : 1 - down + SIDE, 1 - right : 1 - right + SIDE].reshape(len(images), -1)


def initial(hidden, seed):
    random = np.random.default_rng(seed)
    inputs = SIDE * SIDE
    return {
        "w1": (random.standard_normal((inputs, hidden)) * np.sqrt(2 / inputs)).astype(np.float32),
        "b1": np.zeros(hidden, np.float32),
        "w2": (random.standard_normal((hidden, CLASSES)) * np.sqrt(2 / hidden)).astype(np.float32),
        "b2": np.zeros(CLASSES, np.float32),
    }


def forward(network, images):
    """The hidden layer's output and the classes' probabilities."""
    hidden = np.maximum(images @ network["w1"] + network["b1"], 0)
    logits = hidden @ network["w2"] + network["b2"]
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return hidden, grown / grown.sum(axis=1, keepdims=True)


def gradient(network, images, labels):
    """The mean cross-entropy of a batch and its derivative by every parameter."""
    hidden, probability = forward(network, images)
    rows = np.arange(len(labels))
    loss = -np.log(probability[rows, labels] + TINY).mean()
    by_logits = probability
    by_logits[rows, labels] -= 1
    by_logits /= len(labels)
    by_hidden = (by_logits @ network["w2"].T) * (hidden > 0)
    return loss, {
        "w1": images.T @ by_hidden,
        "b1": by_hidden.sum(axis=0),
        "w2": hidden.T @ by_logits,
        "b2": by_logits.sum(axis=0),
    }


class Adam:
    def __init__(self, network, rate):
        self.rate, self.step = rate, 0
        self.mean = {name: np.zeros_like(value) for name, value in network.items()}
        self.square = {name: np.zeros_like(value) for name, value in network.items()}

    def update(self, network, slopes):
        self.step += 1
        scale = self.rate * np.sqrt(1 - BETA2**self.step) / (1 - BETA1**self.step)
        for name, slope in slopes.items():
            self.mean[name] += (1 - BETA1) * (slope - self.mean[name])
            self.square[name] += (1 - BETA2) * (slope * slope - self.square[name])
            network[name] -= scale * self.mean[name] / (np.sqrt(self.square[name]) + TINY)


def run_epoch(network, optimiser, images, labels, shuffle):
    """One pass in a new order; answers the mean loss."""
    order = shuffle.permutation(len(labels))
    losses = []
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        loss, slopes = gradient(network, images[batch], labels[batch])
        optimiser.update(network, slopes)
        losses.append(loss)
    return float(np.mean(losses))


def score(network, images, labels):
    return float((forward(network, images)[1].argmax(axis=1) == labels).mean())


def save(options, network, history, seconds):
    options.out.mkdir(parents=True, exist_ok=True)
    np.savez(options.out / "model.npz", **network)
    metrics = {
        "epochs": history,
        "loss": history[-1]["loss"] if history else None,
        "test_accuracy": history[-1]["accuracy"] if history else None,
        "duration_s": round(seconds, 2),
        "hidden": options.hidden,
        "seed": options.seed,
    }
    # Written beside and moved: whoever sees metrics.json sees all of it, and the model lies there already.
    partial = options.out / "metrics.json.partial"
    partial.write_text(json.dumps(metrics, indent=1) + "\n")
    partial.replace(options.out / "metrics.json")
    print(f"test accuracy {metrics['test_accuracy']} after {metrics['duration_s']} s; wrote {options.out}", flush=True)


if __name__ == "__main__":
    main()
