{{/* Names, labels and ports that several templates share. */}}

{{- define "kubenetprobe.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "kubenetprobe.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "kubenetprobe.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "kubenetprobe.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "kubenetprobe.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "kubenetprobe.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kubenetprobe.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kubenetprobe.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "kubenetprobe.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: agent
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "kubenetprobe.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* The agent's own default, for it is not in values.yaml. */ -}}
{{- define "kubenetprobe.listen" -}}
{{- dig "listen" "0.0.0.0:9464" .Values.config -}}
{{- end -}}

{{- define "kubenetprobe.port" -}}
{{- include "kubenetprobe.listen" . | regexFind "[0-9]+$" -}}
{{- end -}}

{{- /* The address to probe when the agent listens on one only; empty: the pod's. */ -}}
{{- define "kubenetprobe.probeHost" -}}
{{- $host := include "kubenetprobe.listen" . | trimSuffix (printf ":%s" (include "kubenetprobe.port" .)) | trimPrefix "[" | trimSuffix "]" -}}
{{- if not (has $host (list "" "::" "0.0.0.0")) -}}{{- $host -}}{{- end -}}
{{- end -}}
