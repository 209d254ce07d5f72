from sklearn.base import BaseEstimator

class GradientBoostingRegressor(BaseEstimator):
    def __init__(self, *, random_state: int) -> None: ...

class IsolationForest(BaseEstimator):
    def __init__(self, *, n_estimators: int, random_state: int) -> None: ...

class RandomForestClassifier(BaseEstimator):
    def __init__(self, n_estimators: int, *, random_state: int) -> None: ...
