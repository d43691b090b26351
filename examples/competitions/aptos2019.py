"""APTOS 2019 Blindness Detection (Kaggle): grades in order, from 0 (no disease) to 4.

input/aptos2019/ holds train.csv (id_code,diagnosis), train_images/ID.png, test_images/ID.png, and sample_submission.csv
(id_code,diagnosis). Scored by the quadratic weighted kappa: a mistake counts by the square of its distance.
"""

from src.competitions.tables import csv_competition

COMPETITION = csv_competition(
    name="aptos2019",
    id_column="id_code",
    label_column="diagnosis",
    kind="ordinal",
    metric="quadratic_kappa",
    train_folder="train_images",
    test_folder="test_images",
    image_size=(256, 256),
    source="Put the files of kaggle.com/c/aptos2019-blindness-detection into input/aptos2019/",
    kaggle="aptos2019-blindness-detection",
)
