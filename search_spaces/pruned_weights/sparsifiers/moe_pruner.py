"""MoE-Pruner: zeros where the product of weight and router-weighted input is small."""

from search_spaces.pruned_weights.sparsifiers.wanda_mask import Wanda


class MoePruner(Wanda):
    """A weight counts by its size times that of its input, weighted by the router.

    ``|W_ij| · ‖g X_j‖`` with the weight ``g`` that the router gives the expert for each token,
    compared within each output. Of experts no other norms are collected, so that `Wanda` there
    is this method; of an attention or a plain MLP nothing is routed, and this one there is
    `Wanda`.

    References:
        Xie, Zhang, Zhou, Xie, Song, Liu, Wang, Lin & Xu, 2024, "MoE-Pruner: Pruning
        Mixture-of-Experts Large Language Model using the Hints from Its Router".
    """
