"""Podium: from an image competition's downloaded files to a submission that can be trusted and rebuilt.

input/<competition>/                      the organiser's files; only download writes here
    -> python -m src.prepare              labels, checks, folds, decoded cache in runs/<competition>/prepared/
    -> python -m src.train --fold all     one network per fold in runs/<competition>/<run>/fold<k>/
    -> python -m src.evaluate             the out-of-fold score and where the run errs
    -> python -m src.predict              folds x views, decoded, validated: submissions/<competition>/<run>.csv
    -> python -m src.blend                several runs, weighted on their out-of-fold predictions
"""

__version__ = "0.1.0"
