"""DICOM: archives, data sets to radiographs."""
