//! The admission webhook: pods with Multus annotations ask for what their networks need.
