//! Kubernetes resource types (CRDs) and their one conversion into core types.
