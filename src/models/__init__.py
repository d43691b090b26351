"""Networks by name: timm's, and reference nets, one file each, that register with timm when imported."""

from src.models import (
    food_cnn,
    food_vgg16_bn,
    inception_cifar,
    inception_mnist,
    nin,
    resnet9,
    resnet_cifar,
    resnet_mnist,
    string_cnn,
    svhn_cnn,
    vgg_cifar,
)

REFERENCE_NETS = {
    "food_cnn": food_cnn.food_cnn,
    "food_vgg16_bn": food_vgg16_bn.food_vgg16_bn,
    "inception_cifar": inception_cifar.inception_cifar,
    "inception_mnist": inception_mnist.inception_mnist,
    "nin": nin.nin,
    "resnet9": resnet9.resnet9,
    "resnet_cifar": resnet_cifar.resnet_cifar,
    "resnet_mnist": resnet_mnist.resnet_mnist,
    "string_cnn": string_cnn.string_cnn,
    "svhn_cnn": svhn_cnn.svhn_cnn,
    "vgg_cifar": vgg_cifar.vgg_cifar,
}
