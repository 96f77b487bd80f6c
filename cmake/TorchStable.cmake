# torch_stable: the LibTorch stable ABI of the torch that ${Python_EXECUTABLE} sees.
#
# Only the stable ABI: the headers refuse anything newer than the target below and anything outside
# the ABI, so one library serves every torch from the target on, CPU or CUDA build. That is also why
# find_package(Torch) is not used: it brings the flags and libraries of one particular torch.
set(torch_target 2.10)

execute_process(
  COMMAND
    ${Python_EXECUTABLE} -c
    "from importlib.metadata import version; from importlib.util import find_spec; \
print(find_spec('torch').submodule_search_locations[0], version('torch'), sep=';')"
  OUTPUT_VARIABLE torch OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "${Python_EXECUTABLE} has no torch. Install torch >= ${torch_target} there "
                      "first, or build the kernels alone with -DAIRCACHE_CORE_ONLY=ON.")
endif()
list(POP_FRONT torch torch_dir torch_version)
string(REGEX MATCH "^[0-9.]+" torch_release "${torch_version}")
if(torch_release VERSION_LESS torch_target)
  message(FATAL_ERROR "torch ${torch_version} is too old: torch >= ${torch_target} is needed.")
endif()
message(STATUS "torch ${torch_version} in ${torch_dir}, stable ABI of ${torch_target}")

add_library(torch_stable INTERFACE IMPORTED)
target_include_directories(torch_stable SYSTEM INTERFACE ${torch_dir}/include)
target_compile_definitions(torch_stable INTERFACE TORCH_STABLE_ONLY
                                                  TORCH_TARGET_VERSION=0x020a000000000000)
# libtorch.so holds no code of its own, but on CUDA builds it is what leads to libtorch_cuda.so: it
# must stay among the needed libraries although no symbol asks for it.
set(torch_lib ${torch_dir}/lib)
target_link_libraries(
  torch_stable INTERFACE -Wl,--no-as-needed ${torch_lib}/libtorch.so -Wl,--as-needed
                         ${torch_lib}/libtorch_cpu.so ${torch_lib}/libc10.so)
