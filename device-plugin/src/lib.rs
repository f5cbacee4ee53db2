//! Serves pools of devices to kubelet; a library that the agent runs as a task.
