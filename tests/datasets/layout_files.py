"""Small sets written in the layouts in which the real ones are distributed."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import scipy.io

N, IMAGE, TEXT, CLASSES = 60, 5, 7, 4


def image_matrix(n: int = N) -> np.ndarray:
    """float32 [n, 5]; row r starts with r, so that rows can be told apart."""
    values = np.random.default_rng(1).random((n, IMAGE)).astype(np.float32)
    values[:, 0] = np.arange(n)
    return values


def text_matrix(n: int = N) -> np.ndarray:
    """A bag of words, uint8 [n, 7]."""
    return np.random.default_rng(2).integers(0, 2, (n, TEXT)).astype(np.uint8)


def label_matrix(n: int = N) -> np.ndarray:
    """Zeros and ones, uint8 [n, 4], at least one class per row."""
    labels = np.random.default_rng(3).integers(0, 2, (n, CLASSES)).astype(np.uint8)
    labels[np.arange(n), np.arange(n) % CLASSES] = 1
    return labels


def matlab73(path: Path, **variables: np.ndarray) -> None:
    """A .mat of version 7.3 as MATLAB writes it: axes reversed, each variable marked with its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in variables.items():
            file.create_dataset(name, data=np.ascontiguousarray(values.T))
            file[name].attrs["MATLAB_class"] = np.bytes_("single")
        file.create_group("#refs#")


def python_h5(path: Path, **variables: np.ndarray) -> None:
    """HDF5 as a Python program writes it."""
    with h5py.File(path, "w") as file:
        for name, values in variables.items():
            file.create_dataset(name, data=values)


def matlab5(path: Path, **variables: np.ndarray) -> None:
    """A .mat up to version 7."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, variables)


def by_letter(folder: Path, prefix: str, image_file: str, **replaced: np.ndarray) -> Path:
    """One .mat per array, the texts in HDF5 as those of NUS-WIDE are."""
    arrays = {"XAll": image_matrix(), "YAll": text_matrix(), "LAll": label_matrix(), **replaced}
    matlab5(folder / f"{prefix}-{image_file}.mat", XAll=arrays["XAll"])
    matlab73(folder / f"{prefix}-yall.mat", YAll=arrays["YAll"])
    matlab5(folder / "LAll" / f"{prefix}-lall.mat", LAll=arrays["LAll"])
    return folder


def wiki(folder: Path, train: int = 40, test: int = 20) -> Path:
    """The files of the Wikipedia set; class numbers count from 1."""
    both = {"I": image_matrix(train + test), "T": text_matrix(train + test).astype(np.float64)}
    halves = {"tr": slice(0, train), "te": slice(train, None)}
    arrays = {f"{letter}_{half}": both[letter][rows] for half, rows in halves.items() for letter in both}
    matlab5(folder / "raw_features.mat", **arrays)
    for half, rows in (("train", range(train)), ("test", range(test))):
        lines = [f"text{row}\timage{row}\t{row % 10 + 1}\n" for row in rows]
        (folder / f"{half}set_txt_img_cat.list").write_text("".join(lines))
    return folder


def coco_shi(folder: Path, queries: np.ndarray) -> Path:
    """COCO.mat with its split in a group, row numbers from 1, and the texts beside it."""
    matlab73(folder / "COCO.mat", XAll=image_matrix(), LAll=label_matrix())
    with h5py.File(folder / "COCO.mat", "a") as file:
        group = file.create_group("param")
        group.create_dataset("indexQuery", data=(queries[:, None] + 1).astype(np.float64))
        group.create_dataset("indexDatabase", data=np.setdiff1d(np.arange(N), queries)[:, None] + 1.0)
    np.save(folder / "COCO_BoW.npy", text_matrix())
    return folder
