"""Human Protein Atlas Image Classification (Kaggle, 2018): any number of 28 labels, as text in one column.

input/human_protein_atlas/ holds train.csv (Id,Target; a target is "16 0"), train/ID_green.png, test/ID_green.png, and
sample_submission.csv (Id,Predicted). Each Id has four pictures; only the green one, the protein, is read here, not the
red, blue and yellow ones, which show other parts of the cell: prepare lists them in problems.csv. Scored by the F1 of
each label, the mean over the labels (macro F1); the probability from which a label is given is fitted on the
out-of-fold predictions.
"""

from src.competitions.tables import csv_competition

COMPETITION = csv_competition(
    name="human_protein_atlas",
    id_column="Id",
    label_column="Target",
    kind="labels",
    classes=tuple(str(number) for number in range(28)),
    columns=("Id", "Predicted"),
    image_name="{}_green.png",
    channels=1,
    metric="macro_f1",
    source="Put the files of kaggle.com/c/human-protein-atlas-image-classification into input/human_protein_atlas/",
    kaggle="human-protein-atlas-image-classification",
)
