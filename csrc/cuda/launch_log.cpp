#include "cuda/launch_log.h"

namespace aircache::cuda {
namespace {

thread_local bool recording = false;
thread_local std::vector<LaunchRecord> records;

}  // namespace

void record_launches(bool on) {
  recording = on;
  if (on) {
    records.clear();
  }
}

const std::vector<LaunchRecord>& recorded_launches() { return records; }

void log_launch(const LaunchRecord& record) {
  if (recording) {
    records.push_back(record);
  }
}

}  // namespace aircache::cuda
