"""Archives, data sets to radiographs."""
