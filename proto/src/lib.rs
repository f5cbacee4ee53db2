//! Kubelet messages (device plugin v1beta1, plugin registration v1, pod resources v1).
