"""Cases for the combinations that reference.json.gz lacks, from the published implementations, with gradients.

usage: combinations.py OUT.json.gz SEED
needs: torch, monai, nnunetv2

Every number comes from a published class or function. Where none has a setting (a weight map, a sample mask), the case is put
together from published parts: an unreduced loss, summed and divided; the loss of the samples that count.
"""
import gzip
import itertools
import json
import sys
import warnings
from importlib.metadata import version

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss, FocalLoss, GeneralizedDiceLoss, TverskyLoss
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss, get_tp_fp_fn_tn
from nnunetv2.training.loss.robust_ce_loss import TopKLoss

warnings.simplefilter("ignore")
OUT, SEED = sys.argv[1], int(sys.argv[2])
RANDOM = torch.Generator().manual_seed(SEED)
TORCH, MONAI, NNUNET = (f"{name} {version(name)}" for name in ("torch", "monai", "nnunetv2"))
# half a step of the significant bits: a gradient is rounded once
ROUNDING = {"f32": 0.0, "f16": 2.0**-11, "bf16": 2.0**-8}
DTYPE = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

cases = []


# drawing: numbers that their type holds, so that both sides see the same

def logits(*shape, dtype="f32"):
    return (torch.randn(*shape, generator=RANDOM, dtype=torch.float64) * 1.5).to(DTYPE[dtype]).double()


def labels(classes, *shape):
    return torch.randint(0, classes, shape, generator=RANDOM)


def probabilities(*shape, dtype="f32"):
    return torch.softmax(logits(*shape), 1).to(DTYPE[dtype]).double()


def weights(count):
    return [round(w, 3) for w in (torch.rand(count, generator=RANDOM) * 2.5 + 0.2).tolist()]


def one_hot(t, classes):
    return F.one_hot(t, classes).movedim(-1, 1).double()


# writing

def numbers(tensor):
    # ten digits hold an f32 exactly, and more than a tolerance asks for
    flat = [float(f"{x:.10g}") for x in tensor.detach().double().reshape(-1).tolist()]
    return [x if x == x and abs(x) != float("inf") else repr(x) for x in flat]


def integers(tensor):
    return [int(x) for x in tensor.reshape(-1).tolist()]


def head(x, target, activation="softmax", overlap=None, pixel=None, dtype="f32", target_dtype="f32", **more):
    if target.is_floating_point():
        written = dict(kind="probabilities", dtype=target_dtype, shape=list(target.shape), values=numbers(target))
    else:
        written = dict(kind="labels", shape=list(target.shape), values=integers(target))
    for name in ("mask", "sample_mask", "weight_map"):
        if name in more:
            values = numbers(more[name]) if name == "weight_map" else integers(more[name])
            more[name] = dict(shape=list(more[name].shape), values=values)
    return dict(shape=list(x.shape), dtype=dtype, logits=numbers(x), target=written, activation=activation,
                overlap=overlap, pixel=pixel, weight=1.0, ignore_index=None) | more


def add(name, origin, written, loss, x, tolerance=4e-6, expected_head=None):
    """One head; `loss` maps logits to the total."""
    x = x.clone().requires_grad_()
    total = loss(x)
    (gradient,) = torch.autograd.grad(total, [x], allow_unused=True)
    gradient = torch.zeros_like(x) if gradient is None else gradient
    expected = dict(loss=numbers(total)[0], grads=[numbers(gradient)])
    if expected_head:
        expected["heads"] = [dict(overlap=None, pixel=None) | expected_head]
    grad_tolerance = max(tolerance, 1.02 * ROUNDING[written["dtype"]])
    cases.append(dict(id=name, origin=f"{origin}, {TORCH}", heads=[written], expected=expected,
                      tolerance=dict(loss=tolerance, grad=grad_tolerance)))


# settings, and the published function that has them

OVERLAP = dict(kind="dice", include_background=True, batch=False, squared=False, smooth_nr=1e-5, smooth_dr=1e-5,
               class_weights=None, reduction="mean", form="one_minus", weight=1.0)
PIXEL = dict(reduction="mean", weight=1.0)


def activated(activation):
    return dict(softmax=dict(softmax=True), sigmoid=dict(sigmoid=True), none={})[activation]


def monai_overlap(kind, activation, classes, dense, **settings):
    """The setting, and MONAI's loss on dense targets."""
    common = dict(include_background=settings.get("include_background", True), batch=settings.get("batch", False),
                  reduction=settings.get("reduction", "mean"), **activated(activation))
    written = OVERLAP | dict(kind=kind) | settings
    if kind in ("dice", "jaccard"):
        given = settings.get("class_weights")
        loss = DiceLoss(jaccard=kind == "jaccard", squared_pred=settings.get("squared", False),
                        weight=None if given is None else torch.tensor(given, dtype=torch.float64), **common)
    elif kind == "tversky":
        loss = TverskyLoss(alpha=settings["alpha"], beta=settings["beta"], **common)
    else:
        loss = GeneralizedDiceLoss(w_type=settings["class_weighting"], **common)
    return written, lambda x: loss(x, dense)


def published_pixel(kind, activation, target, dense, **settings):
    """The setting, and the published pixel term on labels or dense targets."""
    classes = dense.shape[1]
    written = PIXEL | dict(kind=kind) | settings
    per_class = [1, -1] + [1] * (dense.ndim - 2)
    tensor = lambda name: None if settings.get(name) is None else torch.tensor(settings[name], dtype=torch.float64)
    smoothing = settings.get("label_smoothing", 0.0)
    if kind == "cross_entropy":
        return written, lambda x: F.cross_entropy(x, target, weight=tensor("class_weights"), label_smoothing=smoothing)
    if kind == "top_k_cross_entropy":
        loss = TopKLoss(weight=tensor("class_weights"), k=settings["k_percent"], label_smoothing=smoothing)
        return written, lambda x: loss(x, target[:, None])
    if kind == "binary_cross_entropy":
        smoothed = (1 - smoothing) * dense + smoothing / 2
        positive = tensor("pos_weight")
        positive = None if positive is None else positive.reshape(per_class[1:])
        return written, lambda x: F.binary_cross_entropy_with_logits(x, smoothed, pos_weight=positive)
    loss = FocalLoss(use_softmax=activation == "softmax", gamma=settings["gamma"], alpha=settings["alpha"],
                     include_background=settings.get("include_background", True))
    return written, lambda x: loss(x, dense)


def overlaps(classes):
    return [
        None,
        ("dice", dict(class_weights=weights(classes - 1), include_background=False, batch=True)),
        ("dice", dict(squared=True)),
        ("jaccard", dict(batch=True)),
        ("tversky", dict(alpha=0.3, beta=0.7, include_background=False)),
        ("generalized_dice", dict(class_weighting="simple", batch=True)),
        ("generalized_dice", dict(class_weighting="square", include_background=False)),
    ]


def pixels(classes):
    return [
        None,
        ("cross_entropy", dict(label_smoothing=0.1, class_weights=weights(classes))),
        ("top_k_cross_entropy", dict(k_percent=30.0, label_smoothing=0.1)),
        ("binary_cross_entropy", dict(label_smoothing=0.2, pos_weight=weights(classes))),
        ("focal", dict(gamma=1.5, alpha=weights(classes), class_weights=None)),
        ("focal", dict(gamma=2.0, alpha=0.3, class_weights=None)),
    ]


def every_overlap_with_every_pixel():
    for shape in [(2, 3, 5, 3), (1, 20, 3, 4)]:
        classes = shape[1]
        for number, (overlap, pixel) in enumerate(itertools.product(overlaps(classes), pixels(classes))):
            if overlap is None and pixel is None:
                continue
            for activation in ("softmax", "sigmoid", "none"):
                if activation == "none" and pixel and pixel[0] == "focal":
                    continue
                x = logits(*shape)
                if activation == "none":
                    x = x.abs() / 4
                # labels and soft targets by turns; the top-k's published class takes labels alone
                is_soft = number % 2 == 1 and not (pixel and pixel[0] == "top_k_cross_entropy")
                target = probabilities(*shape) if is_soft else labels(classes, shape[0], *shape[2:])
                dense = target if is_soft else one_hot(target, classes)
                terms, written = [], {}
                if overlap:
                    kind, settings = overlap
                    written["overlap"], term = monai_overlap(kind, activation, classes, dense, **settings)
                    terms.append(term)
                if pixel:
                    kind, settings = pixel
                    written["pixel"], term = published_pixel(kind, activation, target, dense, **settings)
                    terms.append(term)
                names = f"{number}/{overlap[0] if overlap else 'none'}+{pixel[0] if pixel else 'none'}"
                name = f"combination/{'x'.join(map(str, shape))}/{names},{activation},{'soft' if is_soft else 'labels'}"
                add(name, f"{MONAI}, {NNUNET}", head(x, target, activation, **written),
                    lambda x: sum(term(x) for term in terms), x, tolerance=1e-5)


def halves():
    for dtype, shape in itertools.product(("f16", "bf16"), [(2, 3, 5, 3), (2, 4, 4, 2), (1, 20, 3, 4)]):
        for is_soft in (False, True):
            x = logits(*shape, dtype=dtype)
            target = probabilities(*shape, dtype=dtype) if is_soft else labels(shape[1], shape[0], *shape[2:])
            dense = target if is_soft else one_hot(target, shape[1])
            overlap, dice = monai_overlap("dice", "softmax", shape[1], dense)
            pixel, ce = published_pixel("cross_entropy", "softmax", target, dense, label_smoothing=0.1)
            name = f"halves/{dtype}/{'x'.join(map(str, shape))},{'soft' if is_soft else 'labels'}"
            written = head(x, target, overlap=overlap, pixel=pixel, dtype=dtype, target_dtype=dtype)
            add(name, f"{MONAI} DiceLoss + F.cross_entropy on {dtype} numbers in float64", written,
                lambda x: dice(x) + ce(x), x)


def weight_maps_and_masks():
    for shape in [(2, 3, 5, 3), (2, 20, 4, 3)]:
        items, classes, *space = shape
        tag = "x".join(map(str, shape))
        x, target = logits(*shape), labels(classes, items, *space)
        dense, given = one_hot(target, classes), weights(classes)
        mapped = torch.rand(items, *space, generator=RANDOM).float().double() * 2
        keep = (torch.rand(items, *space, generator=RANDOM) > 0.3).double()
        weight = torch.tensor(given, dtype=torch.float64)
        dice_settings = OVERLAP | dict(form="negative", denominator_floor=1e-8, batch=True)
        dice = MemoryEfficientSoftDiceLoss(lambda x: torch.softmax(x, 1), batch_dice=True, do_bg=True, smooth=1e-5, ddp=False)
        for name, m in (("weight map", mapped), ("mask", keep), ("both", mapped * keep)):
            more = {}
            if name != "mask":
                more["weight_map"] = mapped
            if name != "weight map":
                more["mask"] = keep
            kwargs = dict(weight=weight, label_smoothing=0.1, reduction="none")

            def ce(x):
                return (m * F.cross_entropy(x, target, **kwargs)).sum() / (m * weight[target]).sum()

            pixel = PIXEL | dict(kind="cross_entropy", label_smoothing=0.1, class_weights=given)
            add(f"masks/{tag}/{name}/dice+cross-entropy", f"{NNUNET} MemoryEfficientSoftDiceLoss(loss_mask) + F.cross_entropy",
                head(x, target, overlap=dice_settings, pixel=pixel, **more),
                lambda x: dice(x, target[:, None], loss_mask=m[:, None]) + ce(x), x)

            def bce(x):
                values = F.binary_cross_entropy_with_logits(x, dense, reduction="none")
                return (m[:, None] * values).sum() / (m.sum() * classes)

            pixel = PIXEL | dict(kind="binary_cross_entropy", pos_weight=None, label_smoothing=0.0)
            add(f"masks/{tag}/{name}/binary cross-entropy", "F.binary_cross_entropy_with_logits, unreduced",
                head(x, dense, "sigmoid", pixel=pixel, **more), bce, x)

            focal_loss = FocalLoss(gamma=2.0, reduction="none", use_softmax=True)

            def focal(x):
                return (m[:, None] * focal_loss(x, dense)).sum() / (m.sum() * classes)

            pixel = PIXEL | dict(kind="focal", gamma=2.0, alpha=None, class_weights=None)
            add(f"masks/{tag}/{name}/focal", f"{MONAI} FocalLoss, unreduced", head(x, target, pixel=pixel, **more), focal, x,
                tolerance=1e-5)
        # a sample that does not count: the loss of the others
        x, target = logits(3, classes, *space), labels(classes, 3, *space)
        counts = torch.tensor([1, 0, 1])
        kept = counts.bool()
        for batch in (False, True):
            overlap, _ = monai_overlap("dice", "softmax", classes, None, batch=batch)
            pixel = PIXEL | dict(kind="cross_entropy", label_smoothing=0.1, class_weights=given)
            loss = DiceLoss(softmax=True, to_onehot_y=True, batch=batch)
            add(f"masks/{tag}/sample mask,batch={batch}", f"{MONAI} DiceLoss + F.cross_entropy of the samples that count",
                head(x, target, overlap=overlap, pixel=pixel, sample_mask=counts),
                lambda x: loss(x[kept], target[kept][:, None])
                + F.cross_entropy(x[kept], target[kept], weight=weight, label_smoothing=0.1), x)


def present_classes():
    for shape, background, batch in itertools.product([(2, 5, 3, 4), (2, 20, 4, 3)], (True, False), (True, False)):
        items, classes, *space = shape
        x, target = logits(*shape), labels(classes - 2, items, *space)
        first = 0 if background else 1
        dense = one_hot(target, classes)[:, first:]
        present = dense.flatten(2).sum(2) > 0
        present = present.any(0, keepdim=True) if batch else present
        loss = DiceLoss(softmax=True, to_onehot_y=True, include_background=background, batch=batch, reduction="none")

        def mean(x):
            rows = loss(x, target[:, None]).reshape(present.shape)
            of_row = (rows * present).sum(1) / present.sum(1).clamp(min=1)
            return of_row.mean()

        overlap = OVERLAP | dict(include_background=background, batch=batch, present_classes_only=True)
        add(f"present/{'x'.join(map(str, shape))},bg={background},batch={batch}", f"{MONAI} DiceLoss(reduction=none), of classes there are",
            head(x, target, overlap=overlap), mean, x)


def unreduced():
    for shape in [(2, 4, 5, 3), (2, 20, 4, 3)]:
        items, classes, *space = shape
        tag = "x".join(map(str, shape))
        x, target, given = logits(*shape), labels(classes, items, *space), weights(classes)
        ignored = target.clone()
        ignored.view(-1)[::4] = 255
        weight = torch.tensor(given, dtype=torch.float64)
        kwargs = dict(weight=weight, label_smoothing=0.1, ignore_index=255)
        for batch in (False, True):
            overlap, reduced = monai_overlap("dice", "softmax", classes, one_hot(target, classes), batch=batch, class_weights=given)
            rows = DiceLoss(softmax=True, to_onehot_y=True, batch=batch, weight=weight, reduction="none")(x, target[:, None])
            add(f"unreduced/{tag}/dice,batch={batch}", f"{MONAI} DiceLoss(reduction=none)", head(x, target, overlap=overlap),
                reduced, x, expected_head=dict(overlap_losses=[numbers(row) for row in rows.reshape(-1, classes)]))
        pixel = PIXEL | dict(kind="cross_entropy", label_smoothing=0.1, class_weights=given)
        add(f"unreduced/{tag}/cross-entropy", "F.cross_entropy(reduction=none)", head(x, ignored, pixel=pixel, ignore_index=255),
            lambda x: F.cross_entropy(x, ignored, **kwargs), x,
            expected_head=dict(voxel_losses=numbers(F.cross_entropy(x, ignored, reduction="none", **kwargs))))
        dense = probabilities(*shape)
        pixel = PIXEL | dict(kind="binary_cross_entropy", pos_weight=None, label_smoothing=0.0)
        values = F.binary_cross_entropy_with_logits(x, dense, reduction="none").sum(1)
        add(f"unreduced/{tag}/binary cross-entropy", "F.binary_cross_entropy_with_logits(reduction=none), summed over classes",
            head(x, dense, "sigmoid", pixel=pixel), lambda x: F.binary_cross_entropy_with_logits(x, dense), x,
            expected_head=dict(voxel_losses=numbers(values)))


def hard_counts():
    for shape in [(2, 4, 5, 3), (2, 20, 4, 3)]:
        items, classes, *space = shape
        tag = "x".join(map(str, shape))
        x, target = logits(*shape), labels(classes, items, *space)
        # voxels where the largest logits tie: the first class has it
        x[:, 1] = x[:, 0]
        ignored = target.clone()
        ignored.view(-1)[::3] = 255
        mask = (ignored != 255)
        axes = [0, *range(2, len(shape))]
        says = one_hot(x.argmax(1), classes)
        counts = get_tp_fp_fn_tn(says, torch.where(mask, ignored, 0)[:, None], axes=axes, mask=mask[:, None].double())
        counted = dict(hard_counts=[[int(which[c]) for which in counts] for c in range(classes)])
        pixel, _ = published_pixel("cross_entropy", "softmax", target, one_hot(target, classes))
        add(f"hard counts/{tag}/argmax", f"{NNUNET} get_tp_fp_fn_tn of the argmax", head(x, ignored, pixel=pixel, ignore_index=255),
            lambda x: F.cross_entropy(x, ignored, ignore_index=255), x, expected_head=counted)
        regions = (logits(*shape) > 0).double()
        says = (torch.sigmoid(x) > 0.5).double()
        counts = get_tp_fp_fn_tn(says, regions, axes=axes)
        counted = dict(hard_counts=[[int(which[c]) for which in counts] for c in range(classes)])
        overlap, dice = monai_overlap("dice", "sigmoid", classes, regions)
        add(f"hard counts/{tag}/regions", f"{NNUNET} get_tp_fp_fn_tn of sigmoid > 0.5", head(x, regions, "sigmoid", overlap=overlap),
            dice, x, expected_head=counted)


def published_quirks():
    shape = (2, 3, 5, 3)
    items, classes, *space = shape
    x, regions = logits(*shape), (logits(*shape) > 0).double()
    ignored = (torch.rand(items, 1, *space, generator=RANDOM) > 0.7).double()
    loss = DC_and_BCE_loss({}, dict(batch_dice=True, smooth=1e-5, do_bg=True, ddp=False), use_ignore_label=True,
                           dice_class=MemoryEfficientSoftDiceLoss)
    overlap = OVERLAP | dict(batch=True, denominator_floor=1e-8, form="negative")
    pixel = PIXEL | dict(kind="binary_cross_entropy", pos_weight=None, label_smoothing=0.0, mean_over_voxels=True)
    add("quirks/nnU-Net regions with an ignore label", f"{NNUNET} DC_and_BCE_loss(use_ignore_label)",
        head(x, regions, "sigmoid", overlap=overlap, pixel=pixel, mask=1 - ignored[:, 0]),
        lambda x: loss(x, torch.cat([regions, ignored], 1)), x)
    target = labels(classes, items, *space)
    target.view(-1)[::3] = 255
    for activation, background in itertools.product(("softmax", "sigmoid"), (True, False)):
        focal = FocalLoss(to_onehot_y=True, use_softmax=activation == "softmax", gamma=2.0, ignore_index=255, include_background=background)
        pixel = PIXEL | dict(kind="focal", gamma=2.0, alpha=None, class_weights=None, mean_over_voxels=True, include_background=background)
        add(f"quirks/MONAI focal with an ignore label,{activation},bg={background}", f"{MONAI} FocalLoss(ignore_index)",
            head(x, target, activation, pixel=pixel, ignore_index=255), lambda x: focal(x, target[:, None]), x, tolerance=1e-5)
    x, target = logits(2, 2, 5), labels(2, 2, 5)
    overlap, dice = monai_overlap("dice", "softmax", 2, one_hot(target, 2), include_background=False, class_weights=[3.0])
    overlap["ignore_single_class_weight"] = True
    add("quirks/MONAI's weight of a single class", f"{MONAI} DiceLoss(weight)", head(x, target, overlap=overlap), dice, x)


for section in (every_overlap_with_every_pixel, halves, weight_maps_and_masks, present_classes, unreduced, hard_counts, published_quirks):
    section()
about = f"made by combinations.py, seed {SEED}: {TORCH}, {MONAI}, {NNUNET}, on CPU, autograd"
with gzip.GzipFile(OUT, "w", mtime=0) as out:
    out.write(json.dumps(dict(schema="segloss-cases/1", about=about, cases=cases)).encode())
print(len(cases), "cases")
