"""Dog Breed Identification (Kaggle, 2017): one class of 120, handed in as the probability of each.

input/dog_breed_identification/ holds labels.csv (id,breed), train/ID.jpg, test/ID.jpg, and sample_submission.csv: id
and a column for each breed. Scored by the log loss.
"""

from src.competitions.tables import csv_competition

COMPETITION = csv_competition(
    name="dog_breed_identification",
    train_csv="labels.csv",
    id_column="id",
    label_column="breed",
    answer="probabilities",
    metric="log_loss",
    source="Put the files of kaggle.com/c/dog-breed-identification into input/dog_breed_identification/",
    kaggle="dog-breed-identification",
)
