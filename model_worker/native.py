"""The arithmetic of scikit-learn's simplest models, without what scikit-learn does around it on each call.

`predict` of a linear model spends 80 µs on checks and 1 µs on arithmetic; a forest's spends 5 ms on handing 100 trees to
workers that it does not have. Both are written here as scikit-learn computes them, operation by operation, so that results
are equal to the last bit. A class that is not exactly known gets no kernel; each kernel is compared with the plain path
before it is used (fast.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Matrix = np.ndarray[Any, Any]
#: Predictions for the rows of several requests, a matrix each. Raises UnsureError for input that the model would refuse.
Kernel = Callable[[Sequence[Matrix]], list[Matrix]]


#: Those whose prediction of dense input is the product with the coefficients plus the intercept, and nothing else.
_LINEAR = frozenset(
    {"LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "Lars", "LassoLars"}
)


class UnsureError(Exception):
    """The plain path must answer."""


def kernel(model: Any) -> Kernel | None:
    """The kernel for a fitted estimator's `predict`, if it has one."""
    return _linear(model) or _forest(model)


def _linear(model: Any) -> Kernel | None:
    kind = type(model)
    if not kind.__module__.startswith("sklearn.linear_model.") or kind.__name__ not in _LINEAR:
        return None
    coefficients, intercept = model.coef_, model.intercept_
    if not isinstance(coefficients, np.ndarray) or coefficients.dtype != np.float64:
        return None
    turned = coefficients if coefficients.ndim == 1 else coefficients.T

    def predict(matrices: Sequence[Matrix]) -> list[Matrix]:
        if len(matrices) > 1 and all(len(each) == 1 for each in matrices):
            # One product a row: BLAS adds up the rows of a larger matrix in another order, and the last bit would differ.
            rows = np.concatenate(matrices)
            _finite(rows)
            found = np.matmul(np.ascontiguousarray(rows)[:, np.newaxis, :], turned)[:, 0] + intercept
            return [found[number : number + 1] for number in range(len(rows))]
        for each in matrices:
            _finite(each)
        return [each @ turned + intercept for each in matrices]

    return predict


def _forest(model: Any) -> Kernel | None:
    module = sys.modules.get("sklearn.ensemble._forest")
    trees_of = sys.modules.get("sklearn.tree._classes")
    if module is None or trees_of is None or getattr(model, "n_outputs_", 0) != 1:
        return None
    kind = type(model)
    is_classifier = isinstance(model, module.ForestClassifier)
    if is_classifier:
        known = (kind.predict, kind.predict_proba) == (
            module.ForestClassifier.predict,
            module.ForestClassifier.predict_proba,
        ) and model.estimator_.__class__.predict_proba is trees_of.DecisionTreeClassifier.predict_proba
    elif isinstance(model, module.ForestRegressor):
        known = (
            kind.predict is module.ForestRegressor.predict
            and model.estimator_.__class__.predict is trees_of.BaseDecisionTree.predict
        )
    else:
        return None
    if not known or kind._validate_X_predict is not module.BaseForest._validate_X_predict:
        return None
    trees = [estimator.tree_ for estimator in model.estimators_]
    classes = model.classes_ if is_classifier else None
    width = 1 if classes is None else len(classes)

    def predict(matrices: Sequence[Matrix]) -> list[Matrix]:
        rows = np.concatenate(matrices) if len(matrices) > 1 else matrices[0]
        single = np.ascontiguousarray(rows, dtype=np.float32)
        _finite(single)  # missing values too: which forests take them is scikit-learn's to say
        total = np.zeros((len(single), width))
        for tree in trees:
            total += tree.predict(single)
        total /= len(trees)
        found = total[:, 0] if classes is None else classes.take(np.argmax(total, axis=1), axis=0)
        return _split(found, matrices)

    return predict


def _split(found: Matrix, matrices: Sequence[Matrix]) -> list[Matrix]:
    parts, start = [], 0
    for each in matrices:
        parts.append(found[start : start + len(each)])
        start += len(each)
    return parts


def _finite(rows: Matrix) -> None:
    if not np.isfinite(rows).all():
        raise UnsureError
