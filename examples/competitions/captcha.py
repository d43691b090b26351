"""Captchas: a text of five characters in each image, which is the file's name.

input/captcha/ holds samples/TEXT.png, test/, and sample_submission.csv (id,text). Scored by the share of texts that are
right from the first to the last character. Train with --backbone string_cnn --no-pretrained.
"""

import string

from src.competitions.strings import string_competition

COMPETITION = string_competition(
    name="captcha",
    alphabet=string.digits + string.ascii_lowercase,
    length=5,
    train_folder="samples",
    label_column="text",
    image_size=(48, 192),
    source="Put samples/TEXT.png, test/ and sample_submission.csv into input/captcha/",
)
