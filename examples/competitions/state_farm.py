"""State Farm Distracted Driver Detection (Kaggle, 2016): a folder for each class, many images of a driver.

input/state_farm/ holds imgs/train/c0/ ... imgs/train/c9/, imgs/test/, driver_imgs_list.csv (subject,classname,img), and
sample_submission.csv: img and the probability of each class. Scored by the log loss. No fold splits a driver.
"""

from src.competitions.folders import folder_competition

COMPETITION = folder_competition(
    name="state_farm",
    id_column="img",
    train_folder="imgs/train",
    test_folder="imgs/test",
    answer="probabilities",
    metric="log_loss",
    read_table=lambda files: files.table("driver_imgs_list.csv"),
    image_column="img",
    group_column="subject",
    image_size=(240, 320),
    hflip_ok=False,  # the right hand on the telephone is one class, the left hand another
    source="Put the files of kaggle.com/c/state-farm-distracted-driver-detection into input/state_farm/",
    kaggle="state-farm-distracted-driver-detection",
)
