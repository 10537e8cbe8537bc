"""Read image folders: root/{train,test or val}/class/*.png, or images in one folder beside a table of their classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from rgal.core.errors import UserError
from rgal.data.annotations import classes_of
from rgal.data.assemble import assemble
from rgal.data.cache import cached
from rgal.data.dataset import Decoded, ImageSet
from rgal.data.decode import Example, decode_split, encoding_of
from rgal.data.layout import files_below, split_of, train_and_test

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif",
)  # fmt: skip
_UNNAMED = (
    "images",
    "image",
    "imgs",
    "img",
    "jpegimages",
    "unknown",
    "unlabeled",
    "unlabelled",
)  # no classes
_DEPTH = 4  # of folders in which a data set is looked for


@dataclass
class Found:
    """Hold the image files of a folder.

    Args:
        root: the folder that holds the folders of the splits.
        splits: image files by split.
        classes: the class of each file; files without one are not in it.
        tables: files that say the classes.
        notes: what was left out, in words.
    """

    root: Path
    splits: dict[str, list[Path]] = field(default_factory=dict)
    classes: dict[Path, str] = field(default_factory=dict)
    tables: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def has_classes(self, files: Sequence[Path]) -> bool:
        """Tell whether the first of these files has a class."""
        return bool(files) and files[0] in self.classes


def image_files(top: Path) -> Found:
    """Find the images in folders that are named like a split, in `top` or in the one folder below it that has any.

    Raises:
        UserError: two folders are of one split, or several folders below `top` have splits.
    """
    root = _home(top)
    found = Found(root)
    if root != top:
        found.notes.append(f"the data set is read from '{root.relative_to(top)}'")
    homes: dict[str, Path] = {}
    for folder in _split_folders(root):
        split = str(split_of(PurePath(folder.name)))
        images = _images_in(folder, found)
        if not images:
            continue
        if split in homes:
            raise UserError(
                f"'{root}': found '{homes[split].name}' and '{folder.name}', two folders of split '{split}', "
                "expected one; rename or move the other"
            )
        homes[split] = folder
        found.splits[split] = images
        _name_classes(folder, images, found, top)
    return found


def _split_folders(root: Path) -> list[Path]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [folder for folder in folders if split_of(PurePath(folder.name)) is not None]


def _home(top: Path) -> Path:
    """Return `top` if it holds folders of splits, else the one folder below it that does; `top` if there is none."""
    return _home_of(top, ("train",)) or _home_of(top, ("test", "validation")) or top


def _home_of(top: Path, splits: tuple[str, ...]) -> Path | None:
    """Return the one folder, `top` or the nearest below it, that holds a folder of one of these splits."""
    level = [top]
    for _ in range(_DEPTH):
        homes = [
            folder
            for folder in level
            if any(split_of(PurePath(p.name)) in splits for p in _split_folders(folder))
        ]
        if len(homes) > 1:
            names = " and ".join(f"'{home.relative_to(top)}'" for home in homes[:2])
            raise UserError(f"'{top}': found data sets in {names}; name one: --data-root '{homes[0]}'")
        if homes:
            return homes[0]
        level = [
            p
            for folder in level
            for p in sorted(folder.iterdir())
            if p.is_dir() and not p.name.startswith(".")
        ]
    return None


def _images_in(folder: Path, found: Found) -> list[Path]:
    """List the images below the folder of a split, and note what else is there."""
    images: list[Path] = []
    others: Counter[str] = Counter()
    for path in files_below(folder):
        if path.suffix.lower() in SUFFIXES:
            images.append(path)
        else:
            others[path.suffix.lower() or "without a suffix"] += 1
    with_images = {path.relative_to(folder).parts[0] for path in images}
    empty = [
        p.name
        for p in sorted(folder.iterdir())
        if p.is_dir() and p.name[0] != "." and p.name not in with_images
    ]
    if others and images:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(4))
        found.notes.append(f"files that are no images are left out of '{folder.name}': {kinds}")
    if empty and images:
        more = ", ..." if len(empty) > 3 else ""
        found.notes.append(f"folders without an image in '{folder.name}': {', '.join(empty[:3])}{more}")
    return images


def _name_classes(folder: Path, images: Sequence[Path], found: Found, top: Path) -> None:
    """Take the classes of a split's images from their folders or, where these are none, from a table."""
    first = {path: path.relative_to(folder).parts[0] for path in images}
    names = {name for path, name in first.items() if path.parent != folder}
    if names and not (len(names) == 1 and next(iter(names)).lower() in _UNNAMED):
        found.classes |= {path: name for path, name in first.items() if path.parent != folder}
        return
    if named := classes_of(images, [folder, found.root, *_between(found.root, top)]):
        found.tables.append(named[0])
        found.classes |= named[1]


def _between(inner: Path, outer: Path) -> list[Path]:
    """List the folders above `inner`, up to `outer`."""
    return [path for path in inner.parents if path == outer or outer in path.parents]


def read(found: Found, size: int | None, cache: Path, test_split: str | None = None) -> Decoded:
    """Decode an image folder, or take it from the cache. Classes are sorted by name.

    Args:
        found: its files, from `image_files`.
        size: pixels that images are resized to, or None for their own size.
        cache: the folder of decoded data sets.
        test_split: "test" or "validation", which is then evaluated on; None to choose.

    Raises:
        UserError: there is no split, a file is damaged or without a class, or a test image's class has no training
            image.
    """
    root = found.root
    chosen = train_and_test(found.splits, root, test_split, found.has_classes)
    train, test = chosen.train, chosen.test
    for path in (*train, *test):
        if path not in found.classes:
            raise UserError(
                f"'{path}': found an image outside a class folder and no table of classes, "
                f"expected '{path.parents[len(path.relative_to(root).parts) - 2]}/<class>/{path.name}'"
            )
    names = sorted({found.classes[path] for path in train or test})
    for path in test:
        if found.classes[path] not in names:
            raise UserError(
                f"'{path}': found class '{found.classes[path]}', "
                f"expected one of the {len(names)} training classes ('{names[0]}', ...)"
            )

    def decode() -> Decoded:
        first, second = (
            _read_split(files, found.classes, names, root, size) if files else None for files in (train, test)
        )
        return assemble(first, second, names, root)

    sources = [*train, *test, *(table for table in found.tables if table.is_relative_to(root))]
    decoded = cached(root, sources, size, cache, decode)
    return replace(decoded, encoding=_encoding((test or train)[0]), notes=(*found.notes, *chosen.notes))


def _encoding(path: Path) -> str:
    """Return the file's encoding, or "" if it can no longer be read and the images come from the cache."""
    try:
        return encoding_of(path.read_bytes())
    except OSError:
        return ""


def _read_split(
    files: Sequence[Path], classes: Mapping[Path, str], names: Sequence[str], root: Path, size: int | None
) -> ImageSet:
    label = {name: index for index, name in enumerate(names)}

    def examples() -> Iterator[Example]:
        for path in files:
            try:
                data = path.read_bytes()
            except OSError as error:
                raise UserError(f"'{path}' cannot be read: {error.strerror}") from error
            yield Example(data, label[classes[path]], f"'{path}'")

    return decode_split(examples(), len(files), size, f"'{root}'")
