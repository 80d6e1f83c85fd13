"""Which parts of a model are its blocks."""

from torch import nn


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of `model`, in the order of registration: what checkpointing keeps or computes again whole.

    A block is an item of an `nn.ModuleList`, anywhere in the model. Of lists inside lists the innermost count, as the
    outer ones only group (the levels of a U-Net). An item without parameters, or without a `forward` of its own, is no
    block. A model whose blocks lie elsewhere can name them: an attribute `blocks`, any iterable of its modules, is
    taken as it is.
    """
    named = getattr(model, "blocks", None)
    if named is not None:
        return list(dict.fromkeys(named))
    found: dict[nn.Module, None] = {}
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            found.update((item, None) for item in module if _is_block(item))
    return list(found)


def _is_block(module: nn.Module) -> bool:
    inner = any(isinstance(part, nn.ModuleList) for part in module.modules())
    runs = type(module).forward is not nn.Module.forward
    return runs and not inner and any(True for _ in module.parameters())
