"""Fashion-MNIST: 28x28 grey images of ten kinds of clothes.

input/fashion_mnist/ holds the four idx files, gzipped or not.

Source: Xiao et al., Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms, 2017.
"""

from dataclasses import replace

from src.competitions import mnist

NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
)  # fmt: skip

COMPETITION = replace(
    mnist.COMPETITION,
    name="fashion_mnist",
    hflip_ok=True,
    read_train=mnist.read_idx_train,
    read_test=mnist.read_idx_test,
    class_names=NAMES,
    source="Put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
    "t10k-labels-idx1-ubyte.gz of github.com/zalandoresearch/fashion-mnist into input/fashion_mnist/",
    kaggle="",
)
