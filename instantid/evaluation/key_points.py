"""Key points: does the face lie where it was asked for?"""

import numpy as np


def point_error(asked: np.ndarray, found: np.ndarray) -> float:
    """Mean distance of five points (5, 2) from where they were asked for, as a share of the eye distance asked for."""
    eye_distance = np.linalg.norm(asked[1] - asked[0])
    return float(np.linalg.norm(found - asked, axis=1).mean() / eye_distance)
