"""SIIM-ISIC Melanoma Classification (Kaggle, 2020): yes or no, 2% yes, several images of a patient.

input/siim_isic_melanoma/ holds train.csv (image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,
benign_malignant,target), jpeg/train/NAME.jpg, jpeg/test/NAME.jpg, and sample_submission.csv: image_name and target, the
probability of 1. Scored by the area under the ROC curve. No fold splits a patient. Train with --sampler sqrt.
"""

from src.competitions.tables import csv_competition

COMPETITION = csv_competition(
    name="siim_isic_melanoma",
    id_column="image_name",
    label_column="target",
    columns=("image_name", "target"),
    answer="probabilities",
    metric="roc_auc",
    group_column="patient_id",
    train_folder="jpeg/train",
    test_folder="jpeg/test",
    image_size=(256, 256),
    source="Put the files of kaggle.com/c/siim-isic-melanoma-classification into input/siim_isic_melanoma/",
    kaggle="siim-isic-melanoma-classification",
)
