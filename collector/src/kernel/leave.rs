//! Ending faster than the kernel takes our probes away.

/// Lets this process end at once though the kernel takes 0.1 s for each probe by a perf event whose last descriptor is
/// closed, also at the exit of a process (`perf_uprobe_destroy`, one after another under a lock of all the kernel), and
/// 0.04 s for each `uprobe_multi` link: a child has the same descriptors, and ends when this process has. If there can
/// be no child, ending takes its time.
pub fn leave_detaching_to_child() {
    let parent = std::process::id().cast_signed();
    // SAFETY: between the fork and the end of the child there are only calls that POSIX allows there; they touch no memory
    // of ours. Its standard streams are closed for whoever waits for the end of our output.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            for stream in 0..3 {
                libc::close(stream);
            }
            while libc::getppid() == parent {
                libc::usleep(10_000);
            }
            libc::_exit(0);
        }
    }
}
