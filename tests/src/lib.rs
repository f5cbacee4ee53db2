//! End-to-end tests, fixtures and the SR-IOV lab.
