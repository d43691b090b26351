"""Bengali.AI Handwritten Grapheme Classification (Kaggle, 2019): three answers for each image, a row for each.

input/bengaliai_cv19/ holds train.csv (image_id,grapheme_root,vowel_diacritic,consonant_diacritic,grapheme), test.csv,
train_image_data_0.parquet ... and test_image_data_0.parquet ... (image_id, then 137x236 grey pixels), and
sample_submission.csv (row_id,target), where Test_0_grapheme_root is a row. Scored by the mean recall of the classes,
of the root twice, of the others once. pip install -r requirements-parquet.txt; reading takes 7 GB of memory.
"""

from src.competitions.parquet import parquet_images
from src.competitions.tables import csv_competition

COMPETITION = csv_competition(
    name="bengaliai_cv19",
    id_column="image_id",
    label_column=("grapheme_root", "vowel_diacritic", "consonant_diacritic"),
    answer="rows",
    metric="mean_recall",
    head_weights=(2, 1, 1),
    train_folder="train_image_data",
    test_folder="test_image_data",
    find=parquet_images("image_id", (137, 236)),
    image_size=(128, 224),
    hflip_ok=False,
    channels=1,
    source="Put the files of kaggle.com/c/bengaliai-cv19 into input/bengaliai_cv19/",
    kaggle="bengaliai-cv19",
)
