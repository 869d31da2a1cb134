"""DeePMD-kit: its model files (.dp, .yaml), read and written."""
