"""Which files and variables the published sets consist of: a table, and who wrote each line of it.

wiki        raw_features.mat (I_tr, T_tr, I_te, T_te) and the two .list files of the Wikipedia data set;
            zs-zhong/DJSRH datasets.py and settings.py, AwakerLee/CFRH datasets.py
mirflickr   mirflickr25k-iall.mat (IAll: pixels, HDF5, 20015 x 3 x 224 x 224 to h5py), -yall.mat (YAll,
            20015 x 1386), -lall.mat (LAll, 20015 x 24); zs-zhong/DJSRH, KaiserLew/JDSH datasets.py.
            mirflickr25k-iall-vgg.mat (XAll, 20015 x 4096); penghu-cs/UCCH src/cmdataset.py
nuswide10   nus-wide-tc10-iall.mat, -yall.mat (HDF5 and reversed in DJSRH and JDSH, read by scipy in UCCH),
            -lall.mat; nus-wide-tc10-xall-vgg.mat (XAll); the same repositories
nuswide21   nus-wide-tc21-... likewise (readers of DADH's and UCCH's relatives)
one-file    FLICKR-25K.mat, NUS-WIDE-TC21.mat: images or IAll, YAll, LAll; lelan-li/SSAH load_data.py and
            jiangqy/DCMH-CVPR2017 load_data.py (reversed), WendellGul/DCMH data_handler.py (as it is).
            MSCOCO_deep_doc2vec_data_rand.h5py: XAll, YAll, LAll; penghu-cs/UCCH src/cmdataset.py
coco-shi    COCO.mat (IAll pixels, XAll CNN-F features, LAll reversed, param/indexQuery and indexDatabase from 1)
            and COCO_BoW.npy; AwakerLee/CFRH coco_data.py and datasets.py
parts       I_tr T_tr L_tr, I_te ..., I_db ... in one file (mir_cnn.mat) or three (mir_train.mat, mir_query.mat,
            mir_database.mat); XizeWu/CIRH load_data.py, BMC-SDNU/Cross-Modal-Hashing-Retrieval.
            XDatabase YDatabase databaseL XTest YTest testL (IAPR-TC12: VDatabase, VTest); penghu-cs/UCCH.
            ImgDataBase TagDataBase LabDataBase and so on: the .h5 files that several repositories make of those
npy         image.npy, text.npy, labels.npy; flickr_vgg19.npy or nus_vgg19.npy, tags.npy, label.npy as
            Cherishnoobs/DGCPN_dataset_preprocess makes them
parquet     our own: query/train/database.parquet, train/test.parquet, or any feature set (see parquet.py)
"""

from __future__ import annotations

from dataclasses import dataclass, field

ANY_MAT = ("*.mat", "*.h5", "*.h5py", "*.hdf5")
IMAGE_KEYS = ("XAll", "IAll", "images")


@dataclass(frozen=True)
class Source:
    """Where an array is.

    Attributes:
        files: File names or patterns, in any folder below the one given; the first that is there counts.
        keys: Variables; the first that is there counts. None for files that are one array.
    """

    files: tuple[str, ...]
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """Pairs whose three arrays belong together.

    Attributes:
        split: "query", "train" or "database"; "" where the files do not split.
        image: Feature arrays, or pixels, which are refused with a hint.
        text: Feature arrays.
        labels: Zeros and ones [n, classes], or class numbers [n].
        optional: Whether the layout also exists without this part.
    """

    split: str
    image: Source
    text: Source
    labels: Source
    optional: bool = False


@dataclass(frozen=True)
class Layout:
    """A way in which a set is distributed.

    Attributes:
        parts: In the order in which rows are counted.
        query_rows: Row numbers from 1 of the queries, where the files name them.
        classes: Names of the label columns, where a repository names them.
    """

    parts: tuple[Part, ...]
    query_rows: Source | None = None
    classes: tuple[str, ...] = field(default=())


def by_letter(prefix: str, *images: str) -> Layout:
    """One file per array: <prefix>-iall.mat, -yall.mat, -lall.mat; features before pixels."""
    return Layout(
        (
            Part(
                "",
                Source((*(f"{prefix}-{name}.mat" for name in images), f"{prefix}-iall.mat"), IMAGE_KEYS),
                Source((f"{prefix}-yall.mat",), ("YAll",)),
                Source((f"{prefix}-lall.mat",), ("LAll",)),
            ),
        )
    )


def named_parts() -> Layout:
    """Query, database and perhaps training arrays under names that tell the part."""

    def part(split: str, image: str, text: str, labels: str, optional: bool = False) -> Part:
        image_source, text_source, label_source = (
            Source(ANY_MAT, tuple(keys.split())) for keys in (image, text, labels)
        )
        return Part(split, image_source, text_source, label_source, optional)

    return Layout(
        (
            part("query", "I_te XTest VTest ImgQuery", "T_te YTest TagQuery", "L_te testL LabQuery"),
            part("train", "I_tr ImgTrain", "T_tr TagTrain", "L_tr LabTrain", optional=True),
            part(
                "database",
                "I_db XDatabase VDatabase ImgDataBase",
                "T_db YDatabase TagDataBase",
                "L_db databaseL LabDataBase",
            ),
        )
    )


WIKI = Source(("raw_features.mat",))
WIKI_CLASSES = ("art", "biology", "geography", "history", "literature", "media", "music", "royalty", "sport", "warfare")
NPY_IMAGES = ("image.npy", "images.npy", "flickr_vgg19.npy", "nus_vgg19.npy")

LAYOUTS: dict[str, Layout] = {
    "wiki": Layout(
        (
            Part(
                "query",
                Source(WIKI.files, ("I_te",)),
                Source(WIKI.files, ("T_te",)),
                Source(("testset_txt_img_cat.list",)),
            ),
            Part(
                "train",
                Source(WIKI.files, ("I_tr",)),
                Source(WIKI.files, ("T_tr",)),
                Source(("trainset_txt_img_cat.list",)),
            ),
        ),
        classes=WIKI_CLASSES,
    ),
    "mirflickr": by_letter("mirflickr25k", "iall-vgg"),
    "nuswide10": by_letter("nus-wide-tc10", "xall-vgg", "xall-vgg-clean"),
    "nuswide21": by_letter("nus-wide-tc21", "xall-vgg", "xall-vgg-clean"),
    "one-file": Layout(
        (Part("", Source(ANY_MAT, IMAGE_KEYS), Source(ANY_MAT, ("YAll",)), Source(ANY_MAT, ("LAll",))),)
    ),
    "coco-shi": Layout(
        (
            Part(
                "",
                Source(("COCO.mat",), IMAGE_KEYS),
                Source(("COCO_BoW.npy", "COCO.mat"), ("YAll",)),
                Source(("COCO.mat",), ("LAll",)),
            ),
        ),
        query_rows=Source(("COCO.mat",), ("param/indexQuery",)),
    ),
    "parts": named_parts(),
    "npy": Layout(
        (
            Part(
                "",
                Source(NPY_IMAGES),
                Source(("text.npy", "texts.npy", "tags.npy")),
                Source(("labels.npy", "label.npy")),
            ),
        )
    ),
}
