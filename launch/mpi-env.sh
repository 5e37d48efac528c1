# shellcheck shell=bash
# To be sourced: settings of OpenMPI (4 and 5) for processes on one machine, be it a container, with few cores, as root.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
# More ranks than cores are fine, ranks share all cores, and a waiting rank gives its core away.
export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none
export OMPI_MCA_mpi_yield_when_idle=1
# Shared memory between the ranks, without the system calls that containers forbid. No network, no ssh.
export OMPI_MCA_btl=^tcp,openib,uct,ofi
export OMPI_MCA_pml=ob1
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_smsc=^cma
export OMPI_MCA_btl_base_warn_component_unused=0
export OMPI_MCA_oob_tcp_if_include=lo
export OMPI_MCA_plm_rsh_agent="" PRTE_MCA_plm_ssh_agent=""
export PMIX_MCA_psec=native PMIX_MCA_gds=hash
