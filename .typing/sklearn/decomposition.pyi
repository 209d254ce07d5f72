from sklearn.base import BaseEstimator

class PCA(BaseEstimator):
    def __init__(self, components: int) -> None: ...
