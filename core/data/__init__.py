"""Data sets by name, and the batches that training draws from them."""

from core.data.arrays import ArraysData as ArraysData
from core.data.arrays import from_arrays as from_arrays
from core.data.batches import Batches as Batches
from core.data.batches import batches as batches
from core.data.bigram import BigramData as BigramData
from core.data.cells import CellsData as CellsData
from core.data.cifar import Cifar10Data as Cifar10Data
from core.data.dataset import Dataset as Dataset
from core.data.dataset import Source as Source
from core.data.digits import DigitsData as DigitsData
from core.data.idx import IdxData as IdxData
from core.data.images import ImagesData as ImagesData
from core.data.latents import LatentsData as LatentsData
from core.data.manifolds import SphereBlobsData as SphereBlobsData
from core.data.manifolds import SwissRollData as SwissRollData
from core.data.manifolds import TorusCheckerboardData as TorusCheckerboardData
from core.data.python import PythonData as PythonData
from core.data.scale import Scale as Scale
from core.data.spec import DataSpec as DataSpec
from core.data.text import TextData as TextData
from core.data.toy import EIGHT_RADIUS as EIGHT_RADIUS
from core.data.toy import EIGHT_STD as EIGHT_STD
from core.data.toy import CheckerboardData as CheckerboardData
from core.data.toy import EightGaussiansData as EightGaussiansData
from core.data.toy import SpiralData as SpiralData
from core.data.toy import TwoMoonsData as TwoMoonsData
from core.data.toy import eight_centres as eight_centres
from core.data.wells import DoubleWellData as DoubleWellData
from core.data.wells import MuellerData as MuellerData
from core.registry import Registry as Registry

DATA: Registry[type] = Registry(
    "data set",
    {
        "checkerboard": CheckerboardData,
        "eight-gaussians": EightGaussiansData,
        "two-moons": TwoMoonsData,
        "spiral": SpiralData,
        "double-well": DoubleWellData,
        "mueller": MuellerData,
        "sphere-blobs": SphereBlobsData,
        "torus-checkerboard": TorusCheckerboardData,
        "so3-swiss-roll": SwissRollData,
        "cells": CellsData,
        "digits": DigitsData,
        "idx": IdxData,
        "cifar10": Cifar10Data,
        "arrays": ArraysData,
        "images": ImagesData,
        "python": PythonData,
        "latents": LatentsData,
        "text": TextData,
        "bigram": BigramData,
    },
)
"""Every data set by the name that `--data` takes; each is a dataclass of flags with `load()`."""
