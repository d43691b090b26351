"""Humpback Whale Identification (Kaggle, 2018): the five likeliest of 5,005 classes, one of which is "new_whale".

input/humpback_whale/ holds train.csv (Image,Id; an Image is a file's name), train/, test/, and sample_submission.csv
(Image,Id), an Id being five classes with spaces between. Scored by the mean average precision of the five (MAP@5).
How probable new_whale is taken to be at least is fitted on the out-of-fold predictions.
"""

from src.competitions.tables import csv_competition

COMPETITION = csv_competition(
    name="humpback_whale",
    id_column="Image",
    label_column="Id",
    num_answers=5,
    none_class="new_whale",
    metric="map@5",
    image_size=(192, 384),
    hflip_ok=False,  # the left and the right half of a fluke differ
    source="Put the files of kaggle.com/c/humpback-whale-identification into input/humpback_whale/",
    kaggle="humpback-whale-identification",
)
