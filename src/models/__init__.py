"""Networks by name: timm's, and reference nets, one file each, that register with timm when imported."""

from src.models import string_cnn, svhn_cnn

REFERENCE_NETS = {"svhn_cnn": svhn_cnn.svhn_cnn, "string_cnn": string_cnn.string_cnn}
