"""Copy 30 real radiographs of the external role into a folder by class: `real_samples.py CXR OUT`."""

import csv
import shutil
import sys
from pathlib import Path

EACH = 10

source, out = Path(sys.argv[1]), Path(sys.argv[2])
taken: dict[str, set[str]] = {"normal": set(), "pneumonia": set(), "covid": set()}
with (source / "manifest.csv").open(newline="") as lines:
    for row in csv.DictReader(lines):
        label = row["label"]
        # one image a patient, as far as there are enough patients
        if row["role"] != "external" or label not in taken:
            continue
        if len(taken[label]) >= EACH or row["patient_id"] in taken[label]:
            continue
        taken[label].add(row["patient_id"])
        (out / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(source / row["file"], out / label)
sys.stdout.write(f"{sum(map(len, taken.values()))} real radiographs in {out}\n")
