//! Runs a piece of arithmetic compiled for the processor's wider vectors, where it has them.
//! What goes in: a closure whose body is inlined. What comes out: its result, the same bits either way.

/// Calls `work`, compiled a second time for AVX2 on processors that have it. Only what is inlined into `work` gains.
#[inline]
pub(super) fn wide<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "there is no safe way to call a function compiled for other processors")]
        // SAFETY: `with_avx2` asks for nothing but AVX2, and that was just found.
        return unsafe { with_avx2(work) };
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}
