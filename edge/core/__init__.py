"""The words every room uses: types, configuration, calibration file, errors, clock. Imports nothing of ours."""
