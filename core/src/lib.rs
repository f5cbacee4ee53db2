//! The decisions of portwright. Pure: no runtime, no files, no clock, no logger.
