"""Which rows are learned from and which are held out, always drawn the same from the same seed."""

from groundup.data.splitting.folds import k_fold
from groundup.data.splitting.ways import by_hash, by_time, contiguous, given, grouped, random, stratified

__all__ = ["by_hash", "by_time", "contiguous", "given", "grouped", "k_fold", "random", "stratified"]
