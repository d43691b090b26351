"""Networks by name: timm's, and reference nets, one file each, which register with timm when this is imported."""

import importlib
import pkgutil

HELPERS = frozenset({"build", "contract", "heads", "network", "options", "summary"})  # modules that are not networks
FROM_A_FILE = ("text_recognition",)  # networks that are built from --weights
REFERENCE_NETS = tuple(
    sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in HELPERS | set(FROM_A_FILE))
)

for _name in (*REFERENCE_NETS, *FROM_A_FILE):
    importlib.import_module(f"{__name__}.{_name}")
