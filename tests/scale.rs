//! Many small files: memory does not grow with their number. How fast they go is a bench's business.

use crate::support::{Place, scripts};

#[cfg(target_os = "linux")]
#[test]
fn ten_times_the_files_take_about_the_same_memory() {
    if scripts().is_none() {
        return;
    }
    let peak = |count: usize| {
        let place = Place::new();
        for folder in 0..count / 1000 {
            std::fs::create_dir(place.at(&format!("input/{folder:03}"))).unwrap();
            for file in 0..1000 {
                std::fs::write(place.at(&format!("input/{folder:03}/{file:03}.bin")), [0; 16]).unwrap();
            }
        }
        place.probe("fine", &["mini_batch_size: 10"]);
        let record = place.run(&["--quiet"]).completed().record();
        assert_eq!(record["counts"]["rows"], count);
        record["peak_memory_bytes"].as_f64().unwrap()
    };
    let (few, many) = (peak(10_000), peak(100_000));
    println!("peak memory: {:.1} MB for 10,000 files, {:.1} MB for 100,000", few / 1e6, many / 1e6);
    assert!(many <= 1.2 * few, "{few} and {many} bytes");
}
