# The container of deploy/agent, without a container runtime: a root folder that holds the program and the manifest's
# mounts, the manifest's capabilities, and a first process whose root is the host's. Run by privileges.rs as the first
# process of PID and mount namespaces of its own; nothing of it is left when it ends.
#
# PROGRAM: the program. CAPABILITIES: names for setpriv, with commas. MOUNTS: `rw:/path` or `ro:/path` a line.
set -eu
box=$(mktemp -d)
mount -t tmpfs box "$box"
rmdir_at_end() { umount -l "$box"; rmdir "$box"; }
trap rmdir_at_end EXIT
mkdir "$box/proc" "$box/var" "$box/etc"
cp "$PROGRAM" "$box/portwright"
# A test build has libraries; the image's program is static.
for library in $(ldd "$PROGRAM" | grep -o '/[^ ]*'); do
    mkdir -p "$box$(dirname "$library")"
    cp -L "$library" "$box$library"
done
mount --rbind /proc "$box/proc"
for mount in $MOUNTS; do
    path=${mount#*:}
    if [ -f "$path" ]; then
        mkdir -p "$box$(dirname "$path")"
        touch "$box$path"
    else
        mkdir -p "$box$path"
    fi
    # What this machine does not have is an empty folder, as kubelet would make it.
    if [ -e "$path" ]; then
        mount --rbind "$path" "$box$path"
        case $mount in ro:*) mount -o remount,bind,ro "$box$path" ;; esac
    fi
done
mount -o remount,ro "$box"
# Somebody else's process, in a network namespace of its own.
unshare --net setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all sleep 1000 &
while [ "$(stat -c %u "/proc/$!")" != 65534 ]; do :; done
given=$(echo "$CAPABILITIES" | sed 's/[a-z_]*/+&/; s/,/,+/g')
setpriv --bounding-set="-all,$given" --inh-caps="-all,$given" chroot "$box" /portwright "$@"
