{{- define "penstock.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "penstock.fullname" -}}
{{- $name := include "penstock.name" . -}}
{{- $own := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{ default $own .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- /* Labels of an object; `component` says which part it is of. */ -}}
{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Labels of pods: a new version of the chart alone starts none anew. */ -}}
{{- define "penstock.podLabels" -}}
{{ include "penstock.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Labels by which a part's pods are found, and never change. */ -}}
{{- define "penstock.selector" -}}
app.kubernetes.io/name: {{ include "penstock.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* The pods of all workloads of the service, but no Job's. */ -}}
{{- define "penstock.replicas" -}}
app.kubernetes.io/name: {{ include "penstock.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
penstock/replica: "true"
{{- end }}

{{- define "penstock.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "penstock.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{- define "penstock.image" -}}
{{- $image := .image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .root.Chart.AppVersion $image.tag }}
{{- end -}}
{{- end }}

{{- /* The deployment's id: unique where several releases share a provider's account. */ -}}
{{- define "penstock.deployment" -}}
{{ default (printf "%s-%s" .Release.Namespace .Release.Name) .Values.deployment }}
{{- end }}

{{- /* The revision at which the lanes file last changed: replicas with an older one leave sealing to those with a newer one. */ -}}
{{- define "penstock.generation" -}}
{{- $lanes := .Values.lanes -}}
{{- $name := printf "%s-lanes" (include "penstock.fullname" .) -}}
{{- $before := lookup "v1" "ConfigMap" .Release.Namespace $name -}}
{{- if not (kindIs "invalid" $lanes.generation) -}}
{{ int64 $lanes.generation }}
{{- else if and $before (eq (dig "data" "lanes.toml" "" $before) $lanes.toml) -}}
{{ dig "metadata" "annotations" "penstock/generation" .Release.Revision $before }}
{{- else -}}
{{ .Release.Revision }}
{{- end -}}
{{- end }}

{{- /* The workloads: one that does everything, or one for each group of stages. */ -}}
{{- define "penstock.workloads" -}}
{{- $values := .Values -}}
{{- $name := include "penstock.fullname" . -}}
{{- if $values.stages.split -}}
- name: {{ $name }}-intake
  component: intake
  stages: intake
  provider: false
  uploadGiB: 0
  downloadGiB: 0
  {{- toYaml $values.stages.intake | nindent 2 }}
- name: {{ $name }}-submit
  component: submit
  stages: seal,submit,poll,janitor
  provider: true
  uploadGiB: {{ $values.spool.uploadGiB }}
  downloadGiB: 0
  {{- toYaml $values.stages.submit | nindent 2 }}
- name: {{ $name }}-publish
  component: publish
  stages: collect,publish
  provider: true
  uploadGiB: 0
  downloadGiB: {{ $values.spool.downloadGiB }}
  {{- toYaml $values.stages.publish | nindent 2 }}
{{- else -}}
- name: {{ $name }}
  component: service
  stages: ""
  provider: true
  uploadGiB: {{ $values.spool.uploadGiB }}
  downloadGiB: {{ $values.spool.downloadGiB }}
  replicas: {{ $values.replicas }}
  maxReplicas: {{ $values.maxReplicas }}
  resources: {}
{{- end -}}
{{- end }}

{{- /* The name of a topic's KafkaTopic: names of objects have neither capitals nor _. */ -}}
{{- define "penstock.topic.object" -}}
{{ . | lower | replace "_" "-" }}
{{- end }}
