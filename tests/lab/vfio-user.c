/* A process that uses a VFIO device the way QEMU and DPDK do: group into a container, device descriptor taken.
 * The project's own crates forbid unsafe code, and these calls are ioctls; so this is C, and only the lab runs it.
 * usage: vfio-user GROUP ADDRESS; prints "ready" and stays until it is killed. */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char path[64];
	int container, group, device;

	if (argc != 3)
		return 2;
	snprintf(path, sizeof(path), "/dev/vfio/%s", argv[1]);
	container = open("/dev/vfio/vfio", O_RDWR);
	group = open(path, O_RDWR);
	if (container < 0 || group < 0) {
		perror(path);
		return 1;
	}
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) || ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU)) {
		perror("container");
		return 1;
	}
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argv[2]);
	if (device < 0) {
		perror(argv[2]);
		return 1;
	}
	/* The group may be closed: the device descriptor alone keeps the VF. */
	close(group);
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
