"""From the organiser's files to a submission that is handed in: downloads, Kaggle's client, the ledger."""
