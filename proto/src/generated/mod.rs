//! One module for each package of `proto/`.
pub mod pluginregistration;
pub mod v1;
pub mod v1beta1;
