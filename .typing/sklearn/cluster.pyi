from sklearn.base import BaseEstimator

class KMeans(BaseEstimator):
    def __init__(self, clusters: int, *, n_init: int, random_state: int) -> None: ...
