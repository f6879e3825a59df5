"""Kullback–Leibler divergence between the class probabilities of encoders and classifiers."""

from torch import Tensor

from evaluators.metric import Metric
from evaluators.quality.comparison import Comparison
from evaluators.quality.kl import kl

CLASS_KL = Metric(
    name="class_kl",
    unit="nats/example",
    direction="minimise",
    source="Kullback & Leibler, 1951; between classifiers: Hinton et al., 2015",
)


def class_kl(compared: Comparison) -> Tensor:
    """Give Σ p (log p − log q) over the classes of each example, ``(examples,)``.

    Args:
        compared: Of logits ``(examples, classes)``; the targets are the labels, and the hidden
            states what enters the classifier's head.
    """
    return kl(compared)
