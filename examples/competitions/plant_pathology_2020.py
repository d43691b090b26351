"""Plant Pathology 2020 (Kaggle): a column of 0 and 1 for each label, and one folder for all images.

input/plant_pathology_2020/ holds train.csv (image_id,healthy,multiple_diseases,rust,scab), images/Train_0.jpg and
images/Test_0.jpg, test.csv (image_id), and sample_submission.csv: image_id and the probability of each label. Scored by
the area under the ROC curve, the mean over the labels.
"""

from src.competitions.tables import csv_competition

COMPETITION = csv_competition(
    name="plant_pathology_2020",
    id_column="image_id",
    label_column=("healthy", "multiple_diseases", "rust", "scab"),
    kind="labels",
    answer="probabilities",
    metric="roc_auc",
    train_folder="images",
    test_folder="images",
    image_size=(256, 384),
    source="Put the files of kaggle.com/c/plant-pathology-2020-fgvc7 into input/plant_pathology_2020/",
    kaggle="plant-pathology-2020-fgvc7",
)
