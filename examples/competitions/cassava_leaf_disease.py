"""Cassava Leaf Disease Classification (Kaggle, 2020): one class for each image.

input/cassava_leaf_disease/ holds train.csv (image_id,label; an image_id is a file's name), train_images/, test_images/,
and sample_submission.csv (image_id,label). Scored by the share of right answers.
"""

from src.competitions.tables import csv_competition

COMPETITION = csv_competition(
    name="cassava_leaf_disease",
    id_column="image_id",
    label_column="label",
    train_folder="train_images",
    test_folder="test_images",
    image_size=(384, 512),
    metric="accuracy",
    class_names=("bacterial blight", "brown streak", "green mottle", "mosaic", "healthy"),  # for reports
    source="Put the files of kaggle.com/c/cassava-leaf-disease-classification into input/cassava_leaf_disease/",
    kaggle="cassava-leaf-disease-classification",
)
